"""Read users' files: lines, tables, captions, data sets of TensorFlow Datasets."""
