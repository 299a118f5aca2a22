"""Programs that measure: speed, memory and communication, against a PyTorch twin and against the machine's limits."""
