"""Lists of videos in, clips out: AudioSet's official ones, and any CSV."""
