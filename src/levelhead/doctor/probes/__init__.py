"""What the doctor measures; judging is left to ``levelhead.doctor.rules``."""
