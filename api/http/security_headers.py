"""Security headers of every answer: nothing may be embedded, sniffed, run inline or read from elsewhere.

No other site's page can read one but those that `cross_origin` lets in. HSTS is left to whoever ends TLS.
"""

from flask import Flask, Response

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# Pages load what this server serves and nothing else; data: are icons of /docs, blob: pictures that were
# asked for with a key.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Data and stored pictures, were a browser to take one for a page.
DATA_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"


def install(app: Flask) -> None:
    """Add the headers to every answer; a view's own win."""

    def add(response: Response) -> Response:
        policy = PAGE_POLICY if response.mimetype == "text/html" else DATA_POLICY
        for name, value in {**HEADERS, "Content-Security-Policy": policy}.items():
            response.headers.setdefault(name, value)
        return response

    app.after_request(add)
