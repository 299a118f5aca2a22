"""Networks: Flax modules and the pure functions they are made of; they know nothing of data or of training."""
