"""A trained model in the forms in which others look for it: a card, an ONNX file, a BioImage.IO package."""
