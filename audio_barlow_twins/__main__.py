"""`python -m audio_barlow_twins`, the same as `abt`."""

from audio_barlow_twins.command import main

if __name__ == "__main__":
    main()
