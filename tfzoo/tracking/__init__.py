"""What a run leaves behind: its folder, metrics, pictures, and the trackers that show them."""
