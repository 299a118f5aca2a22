"""The napari plugin: segment what is on screen, correct it, learn from the corrections, and number the instances."""
