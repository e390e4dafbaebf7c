"""StableAnimator: a ComfyUI custom node pack.

ComfyUI imports this file at its start, so it imports nothing; the nodes are loaded when ComfyUI
asks for them.
"""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Give ComfyUI the pack's nodes."""
    import logging

    try:
        from .nodes.extension import StableAnimatorExtension
    except Exception:
        # ComfyUI logs the message of an error here but not where it came from
        logging.getLogger(__name__).exception("StableAnimator could not be loaded")
        raise
    return StableAnimatorExtension()
