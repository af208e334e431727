"""`python -m keras_attention` is the command `keras-attention`."""

from keras_attention.cli import main

if __name__ == "__main__":
    main()
