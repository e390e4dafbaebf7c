"""ComfyUI nodes: sockets and widgets only; what they do is in animator_core."""
