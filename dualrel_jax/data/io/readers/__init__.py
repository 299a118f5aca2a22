"""One lazy reader for each file format; `formats` lists those of files, `volume.open_volume` chooses."""
