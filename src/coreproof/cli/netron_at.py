"""Netron's page at a layer, and on this machine only.

Netron has no address for a layer: a script beside its own goes there once the graph is drawn. Its page keeps the view as
``window.__view__``; where another version does not, the graph is shown from its beginning and the browser's console says so.

As Netron serves it, the page asks a web service for the country and reports usage. Served from here it reaches nothing but
this machine. What it asks its user (whether it may keep a cookie) is the user's to answer.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

_ONLY_HERE = "connect-src 'self'; img-src 'self' data: blob:; form-action 'none'"
_TRIES = 50
"""As often is a drawn graph asked for the layer, five times a second: a large one is laid out for a while."""
_TO_LAYER = """<script>
(() => {
  const wanted = %s;
  let tries = %d;
  const named = graph => graph && graph.nodes
    ? graph.nodes.find(node => wanted[0] === node.name)
      || graph.nodes.find(node => (node.outputs || []).some(output => (output.value || []).some(
        value => value && wanted.includes(String(value.name).split('\\n')[0]))))
    : null;
  const timer = setInterval(() => {
    try {
      const view = window.__view__, node = view && view.target ? named(view.activeTarget) : null;
      const drawn = node ? view.target.activate(node, 'sidebar') : [];
      if (drawn.length > 0) {
        clearInterval(timer);
        view.target.scrollTo(drawn);
        document.documentElement.setAttribute('data-layer', wanted[0]);
      } else if (view && view.target && --tries === 0) {
        throw new Error('no such layer in the graph that is shown');
      }
    } catch (error) {
      clearInterval(timer);
      console.warn('coreproof: Netron did not go to ' + wanted[0] + ': ' + error.message);
    }
  }, 200);
})();
</script>"""


def serve_at(netron_url: str, names: list[str], host: str, port: int) -> str:
    """Serves what Netron serves; gives the address.

    ``names``: of the layer to go to, then of the values it makes, which some formats know it by; none: stay at the start.
    """
    wanted = json.dumps(names).replace("<", "\\u003c")  # a name must not end the script
    script = (_TO_LAYER % (wanted, _TRIES) if names else "").encode()
    direct = build_opener(ProxyHandler({}))  # never through a proxy: both ends are this machine

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith("/"):  # it would become part of another address
                self.send_error(400)
                return
            try:
                with direct.open(netron_url + self.path) as answer:
                    status, kind, content = answer.status, answer.headers.get_content_type(), answer.read()
            except HTTPError as error:
                status, kind, content = error.code, "text/plain", b""
            except OSError:  # Netron has ended
                status, kind, content = 502, "text/plain", b""
            if self.path.partition("?")[0] in ("/", "/index.html"):
                content = content.replace(b"<head>", b"<head>" + script, 1)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Security-Policy", _ONLY_HERE)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the terminal is the user's."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Nothing of a browser that went away."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, client_address)

    server = Server((host, port), Page)
    Thread(target=server.serve_forever, daemon=True).start()
    return f"http://{host}:{server.server_address[1]}"
