"""Pages that are not the relay's own: of another origin, on a server of their own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp.web import Application, AppRunner, Request, Response, TCPSite

__all__ = ["plain_page", "served"]


async def _page(_: Request) -> Response:
    return Response(text="<main></main>", content_type="text/html")


def plain_page() -> Application:
    """A site of one page, at its root, without any policy."""
    app = Application()
    app.router.add_get("/", _page)
    return app


@asynccontextmanager
async def served(app: Application) -> AsyncGenerator[str]:
    """The origin at which *app* is served."""
    runner = AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
