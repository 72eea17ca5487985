"""HTTP/1.1 as bytes: heads read and written, bodies framed. No I/O."""
