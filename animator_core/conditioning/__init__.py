"""What the video network is conditioned on: reference picture, face and poses."""
