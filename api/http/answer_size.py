"""A bound on one JSON answer, so that no search makes the server, or who asked, hold more."""

from flask import Flask, Response

from api.http import problems
from shared.errors import AnswerTooLarge

MAX_ANSWER_BYTES = 16 * 2**20


def install(app: Flask) -> None:
    """Bound every answer; call it last, so that the problem that replaces an answer has its headers."""

    def bound(response: Response) -> Response:
        size = response.calculate_content_length() if response.mimetype == "application/json" else 0
        if (size or 0) <= MAX_ANSWER_BYTES:
            return response
        return problems.answer(
            AnswerTooLarge(
                f"The answer would have {size:,} bytes; at most {MAX_ANSWER_BYTES:,} are sent. Ask for fewer "
                "results at once (`limit`), or for less of each (`include`)."
            )
        )

    app.after_request(bound)
