"""Any sound file in, the whole or pieces of it out: mono, on the recording's own clock.

file ─ clock (how its container keeps time) ─ reading (ffmpeg: from the start, or after a seek)
                                                 │ pipe, float AU
                                                 ▼
                    sound: decode, decode_pieces, duration_of ◀── track (soxr, one piece each)
"""
