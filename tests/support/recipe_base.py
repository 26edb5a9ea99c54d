"""A small English base for the multilingual recipe."""

from tests.support.checkpoints import XLSR

LETTERS_OF_BASE = ("<pad>", "<s>", "</s>", "<unk>", "|", *"'ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SMALL = XLSR | {
    "conv_dim": (16,) * 7, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
