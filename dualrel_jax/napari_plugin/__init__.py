"""The napari plugin: segment, number and correct a volume, and retrain from the corrections."""
