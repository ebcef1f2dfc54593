"""A ComfyUI that does not start, or starts without the pack, is an error that shows its log."""

import pytest

from lumina_next.tools.comfyui import Host


def test_host_that_ends_early_shows_its_log(tmp_path):
    source = tmp_path / "comfyui"
    source.mkdir()
    (source / "main.py").write_text("raise SystemExit('no disk left')")
    with pytest.raises(RuntimeError, match="(?s)ended while starting.*no disk left"):
        with Host(tmp_path / "base", source=source):
            pass


def test_host_without_the_pack_is_an_error(tmp_path):
    source = tmp_path / "comfyui"
    source.mkdir()
    (source / "main.py").write_text(SERVER_WITHOUT_NODES)
    with pytest.raises(RuntimeError, match="(?s)without this pack's nodes.*import failed"):
        with Host(tmp_path / "base", source=source):
            pass


SERVER_WITHOUT_NODES = """
import http.server, sys
print("import failed", flush=True)
class Empty(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Empty).serve_forever()
"""
