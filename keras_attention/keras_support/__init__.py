"""Code that depends on the version and the configuration of Keras."""
