"""What a run leaves behind: its folder, its metrics, its pictures, and the trackers that show them."""
