"""Every word an agent reads: instructions, tool descriptions, and what to do next.

Agents act on these texts, so tests/mcp/test_front_texts.py says what each must contain.
"""

from __future__ import annotations

REFUSAL = (
    "I can't use the image service for this: it is for illustrations, not for engineering, CAD, UX mock-ups, "
    "hardware schematics, photoreal product renders, dimensional drawings, or medical or scientific imagery."
)

BEST_SUITED = """BEST SUITED FOR: concept ideation, mood boards, stock-art-style illustrations, icons, \
whiteboard diagrams."""

RESTRICTED_USE = f"""RESTRICTED USE: do not call this tool for engineering, CAD, UX mock-ups, hardware \
schematics, photoreal product renders, dimensional drawings, medical or scientific imagery. If asked for \
one of these, answer with exactly this sentence and do not call the tool:
"{REFUSAL}\""""

POLLING = (
    "HOW TO POLL: get_job_status waits up to 45 s by itself for news; leave 5 s between two calls, never "
    "less, and longer where its answer says so. When it says complete, call get_job_result once."
)

PREVIEW_HIDDEN = (
    "The preview is hidden by default in some clients: always tell the user where the file is "
    "(the saved path, or the download command if no file was saved)."
)

INSTRUCTIONS = f"""Draws and edits pictures on the user's own image service. {BEST_SUITED}
Not for engineering, CAD, UX mock-ups, hardware schematics, photoreal product renders, dimensional \
drawings, medical or scientific imagery: the tools' RESTRICTED USE block has the sentence to answer with.
generate_image and edit_image wait for the picture. For several pictures, or while doing other work, use \
submit_async_job, then get_job_status (every 5 s, not faster), then get_job_result.
{PREVIEW_HIDDEN}"""


def with_limits(model: str, limits: str) -> str:
    """The instructions for a service whose default model cannot do what a user may expect."""
    return f"{INSTRUCTIONS}\nThe service's model is {model}. {limits} Tell the user so before you draw anything else."


_PARAMETERS = (
    "Only the prompt is needed: leave the other parameters out unless the user asks for something "
    "particular; the model's own defaults are used. For text in the picture, put the exact words in quotes "
    "into the prompt."
)

_LONG_WORK = (
    "LONG WORK: the first picture after a pause loads the model, which can take minutes. If the picture is "
    "not ready in time, this tool hands back a job id and the picture goes on being drawn; it is not lost, "
    "and must not be asked for again."
)

GENERATE_IMAGE = f"""Draw a picture from words, wait for it and save it in full resolution.

{BEST_SUITED}

{RESTRICTED_USE}

{_PARAMETERS}

RESULT: a preview, the path of the saved file (or a download command), a URL and when it expires, and the \
image id that edit_image takes. {PREVIEW_HIDDEN}

{_LONG_WORK}
{POLLING}"""

EDIT_IMAGE = f"""Change a picture, or combine up to four pictures, as words say; wait for it and save it.

`images` takes image ids from earlier results, and paths of local picture files (PNG, JPEG, WebP, GIF, BMP, \
TIFF) where this server runs on the user's machine. Never pass base64 or a data URL. Of a local file only \
the pixels are sent, nothing else that is in the file.

{BEST_SUITED}

{RESTRICTED_USE}

{_PARAMETERS} Say what shall change and what shall stay.

RESULT: a preview, the path of the saved file (or a download command), a URL and when it expires, and the \
new image id. {PREVIEW_HIDDEN}

{_LONG_WORK}
{POLLING}"""

SUBMIT_ASYNC_JOB = f"""Ask for a picture and return its job id at once. With `images` it edits those.

Use it for several pictures in a row, or to go on with other work meanwhile. The job runs to its end even \
if nobody asks for it.

{BEST_SUITED}

{RESTRICTED_USE}

{_PARAMETERS}

{POLLING}"""

GET_JOB_STATUS = f"""Say how far a job is: place in the queue, loading, step, time left.
Waits up to 45 s for news.

{POLLING}
A complete job's picture is fetched with get_job_result."""

GET_JOB_RESULT = f"""Fetch the picture of a complete job and save it in full resolution.

It can be called any number of times until the job expires; after that the answer says when it did.

RESULT: a preview, the path of the saved file (or a download command), a URL and when it expires, and the \
image id. {PREVIEW_HIDDEN}"""

CANCEL_JOB = """Stop a job that is no longer wanted, whether it waits or is being drawn.

Cancelling a job that has ended changes nothing. Only cancel jobs that the user no longer wants."""

LIST_TEMPLATES = """List the prompt templates: ready-made prompts with placeholders to fill in.

Fill the placeholders with what the user wants, show the prompt if it is long, and pass it to \
generate_image. Templates are never applied by themselves."""

READ_IMAGE_CHUNK = """Read a part of a picture's full-resolution PNG, base64-encoded. For the picture view only."""


def next_step_done(saved: bool) -> str:
    """What an agent does with a finished picture."""
    where = "where the file was saved" if saved else "the download command"
    return f"Always tell the user {where}: the preview is hidden by default in some clients."


def next_step_waiting(job_id: str, every_s: int = 5) -> str:
    """What an agent does with a job that goes on; every_s: seconds between two calls."""
    return (
        f'Call get_job_status(job_id="{job_id}") every {every_s} s, not faster; it waits up to 45 s by itself. When '
        f'it says complete, call get_job_result(job_id="{job_id}"). Do not ask for the same picture again.'
    )


def next_step_complete(job_id: str) -> str:
    """What an agent does with a job whose picture is ready to be fetched."""
    return f'Call get_job_result(job_id="{job_id}") to get the picture, then tell the user where the file is.'


def template_message(prompt: str, size: str) -> str:
    """What a person says by choosing a template."""
    return f"Draw this with the tool generate_image{size}, then tell me where the file is:\n\n{prompt}"
