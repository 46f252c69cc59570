"""What cannot be read of a convolutional network; the methods' own tests run them on transformers."""

TRANSFORMERS_ONLY = {
    "patient": "a map has no class token",
    "attention_maps": "there is no attention between pixels",
    "self_relations": "nor are there queries, keys and values",
}
