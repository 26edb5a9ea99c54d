// The display preferences: a form whose values the browser stores and the page applies.

const KEY = "xlsr-live.look";

/** Fill the form, store it, and call `onChange` with its values now and at every change. */
export function preferences(form, onChange) {
  const fields = [...form.elements].filter(({ name }) => name);
  for (const field of fields) {
    const value = stored()[field.name];
    if (value === undefined) continue;
    if (field.type === "checkbox") field.checked = value;
    else if (field.type === "radio") field.checked = field.value === value;
    else {
      if (field.tagName === "SELECT" && ![...field.options].some((option) => option.value === value)) {
        field.add(new Option(value, value)); // one that the page adds later
      }
      field.value = value;
    }
  }
  const apply = () => {
    const values = {};
    for (const field of fields) {
      if (field.type === "checkbox") values[field.name] = field.checked;
      else if (field.type !== "radio" || field.checked) values[field.name] = field.value;
    }
    store(values);
    const root = document.documentElement;
    for (const [name, value] of Object.entries(values)) root.dataset[name] = value;
    root.style.setProperty("--size", values.size);
    onChange(values);
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
}

// A browser may forbid storage; then nothing is stored.
function stored() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

function store(values) {
  try {
    localStorage.setItem(KEY, JSON.stringify(values));
  } catch {}
}
