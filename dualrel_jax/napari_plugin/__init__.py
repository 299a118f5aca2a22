"""The napari plugin: segment a volume, label its instances, correct the mask, and retrain from the corrections."""
