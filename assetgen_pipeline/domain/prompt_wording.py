"""What a model reads besides the prompt: what the reference images are for.

No API has a field for it. References are sent first, in order, so that the text can
number them.
"""

from assetgen_pipeline.domain.image_request import MAX_REFERENCES, ReferenceMode

# Part of every content address: raise it when the wording changes, or when the same request
# should give a new image (a test holds the two together).
WORDING_VERSION = 1

_PURPOSES = {
    ReferenceMode.STYLE_ONLY: (
        "Use {images} only as a reference for style: palette, lighting, medium and texture."
        " Do not copy subjects, text or layout from {them}."
    ),
    ReferenceMode.STYLE_AND_COMPOSITION: (
        "Use {images} as a reference for both style and composition: follow the palette,"
        " lighting and medium, and also the framing, layout and placement of subjects in {them}."
    ),
}


def worded_prompt(prompt: str, *, mode: ReferenceMode, references: int) -> str:
    """The text that is sent: the prompt alone, or after a sentence on its references."""
    if references == 0:
        return prompt
    several = references > 1
    sentence = _PURPOSES[mode].format(
        images=f"images 1 to {references}" if several else "image 1",
        them="them" if several else "it",
    )
    return f"{sentence}\n\nMake this image:\n{prompt}"


def most_text_bytes(prompt: str, *, references: int) -> int:
    """The most bytes of text that a request can hold, whichever mode it is in."""
    return max(
        len(worded_prompt(prompt, mode=mode, references=count).encode())
        for mode in ReferenceMode
        for count in {0, min(references, 1), references}
    )


def wordings() -> list[str]:
    """Every wording there is, for whoever must notice that one changed."""
    return [
        worded_prompt("…", mode=mode, references=count)
        for mode in ReferenceMode
        for count in range(MAX_REFERENCES + 1)
    ]
