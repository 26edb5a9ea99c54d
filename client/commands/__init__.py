"""One module for each sub-command of `xlsr-live`."""
