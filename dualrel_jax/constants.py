"""Values that every part of the package shares."""

IGNORE = 255  # decoded labels: a pixel that counts nowhere; 0 is background, 1 mitochondrion
