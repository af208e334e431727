"""Recurrent layers: an encoder, and a decoder whose steps attend to a memory."""
