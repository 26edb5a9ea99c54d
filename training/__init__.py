"""Fine-tuning for live use, behind `xlsr-live finetune`. The recipe of the packaged model uses the same code."""
