"""Any sound file in, 16 kHz mono PCM16 out, by ffmpeg."""
