"""Decode, resize and augment images, and store the region features of a frozen image encoder."""
