"""libnghttp2 (Debian: libnghttp2-14) by way of cffi: what of its API is used, and how it is found.

The declarations are those of nghttp2.h 1.52, as far as they are used. Structs that the library hands out are
declared up to the last field that is read.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

import cffi

from meshd.libraries import NGHTTP2, why_not_nghttp2


class LibraryError(Exception):
    """The library is not there, or too old. The message says what to do."""


_DECLARATIONS = """
typedef struct nghttp2_session nghttp2_session;
typedef struct nghttp2_session_callbacks nghttp2_session_callbacks;
typedef struct nghttp2_option nghttp2_option;

typedef struct {
  uint8_t *name; uint8_t *value; size_t namelen; size_t valuelen; uint8_t flags;
} nghttp2_nv;
typedef struct {
  size_t length; int32_t stream_id; uint8_t type; uint8_t flags; uint8_t reserved;
} nghttp2_frame_hd;
typedef struct { nghttp2_frame_hd hd; uint8_t opaque_data[8]; } nghttp2_ping;
typedef struct {
  nghttp2_frame_hd hd; int32_t last_stream_id; uint32_t error_code;
  uint8_t *opaque_data; size_t opaque_data_len;
} nghttp2_goaway;
typedef union { nghttp2_frame_hd hd; nghttp2_ping ping; nghttp2_goaway goaway; } nghttp2_frame;
typedef struct { int32_t settings_id; uint32_t value; } nghttp2_settings_entry;
typedef struct { uint32_t urgency; int inc; } nghttp2_extpri;
typedef union { int fd; void *ptr; } nghttp2_data_source;
typedef ssize_t (*nghttp2_data_source_read_callback)(
  nghttp2_session *, int32_t, uint8_t *, size_t, uint32_t *, nghttp2_data_source *, void *);
typedef struct {
  nghttp2_data_source source; nghttp2_data_source_read_callback read_callback;
} nghttp2_data_provider;

typedef int (*nghttp2_on_frame_callback)(nghttp2_session *, const nghttp2_frame *, void *);
typedef int (*nghttp2_on_invalid_frame_recv_callback)(nghttp2_session *, const nghttp2_frame *, int, void *);
typedef int (*nghttp2_on_header_callback)(
  nghttp2_session *, const nghttp2_frame *,
  const uint8_t *, size_t, const uint8_t *, size_t, uint8_t, void *);
typedef int (*nghttp2_on_data_chunk_recv_callback)(
  nghttp2_session *, uint8_t, int32_t, const uint8_t *, size_t, void *);
typedef int (*nghttp2_on_stream_close_callback)(nghttp2_session *, int32_t, uint32_t, void *);

const char *nghttp2_strerror(int);

int nghttp2_option_new(nghttp2_option **);
void nghttp2_option_set_no_auto_window_update(nghttp2_option *, int);
void nghttp2_option_set_peer_max_concurrent_streams(nghttp2_option *, uint32_t);
void nghttp2_option_set_max_outbound_ack(nghttp2_option *, size_t);
void nghttp2_option_set_max_settings(nghttp2_option *, size_t);
void nghttp2_option_set_max_continuations(nghttp2_option *, size_t);
void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option *, uint64_t, uint64_t);

int nghttp2_session_callbacks_new(nghttp2_session_callbacks **);
void nghttp2_session_callbacks_set_on_begin_headers_callback(
  nghttp2_session_callbacks *, nghttp2_on_frame_callback);
void nghttp2_session_callbacks_set_on_header_callback(
  nghttp2_session_callbacks *, nghttp2_on_header_callback);
void nghttp2_session_callbacks_set_on_invalid_header_callback(
  nghttp2_session_callbacks *, nghttp2_on_header_callback);
void nghttp2_session_callbacks_set_on_frame_recv_callback(
  nghttp2_session_callbacks *, nghttp2_on_frame_callback);
void nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(
  nghttp2_session_callbacks *, nghttp2_on_invalid_frame_recv_callback);
void nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
  nghttp2_session_callbacks *, nghttp2_on_data_chunk_recv_callback);
void nghttp2_session_callbacks_set_on_stream_close_callback(
  nghttp2_session_callbacks *, nghttp2_on_stream_close_callback);

int nghttp2_session_client_new2(
  nghttp2_session **, const nghttp2_session_callbacks *, void *, const nghttp2_option *);
int nghttp2_session_server_new2(
  nghttp2_session **, const nghttp2_session_callbacks *, void *, const nghttp2_option *);
void nghttp2_session_del(nghttp2_session *);
ssize_t nghttp2_session_mem_recv(nghttp2_session *, const uint8_t *, size_t);
ssize_t nghttp2_session_mem_send(nghttp2_session *, const uint8_t **);
int nghttp2_session_want_read(nghttp2_session *);
int nghttp2_session_want_write(nghttp2_session *);
int nghttp2_session_upgrade2(nghttp2_session *, const uint8_t *, size_t, int, void *);
int nghttp2_session_consume(nghttp2_session *, int32_t, size_t);
int nghttp2_session_consume_connection(nghttp2_session *, size_t);
int nghttp2_session_set_local_window_size(nghttp2_session *, uint8_t, int32_t, int32_t);
int nghttp2_session_resume_data(nghttp2_session *, int32_t);
int nghttp2_session_terminate_session(nghttp2_session *, uint32_t);
int nghttp2_session_change_extpri_stream_priority(nghttp2_session *, int32_t, const nghttp2_extpri *, int);
int nghttp2_session_check_request_allowed(nghttp2_session *);
int32_t nghttp2_session_get_last_proc_stream_id(nghttp2_session *);
uint32_t nghttp2_session_get_remote_settings(nghttp2_session *, int);

int32_t nghttp2_submit_request(
  nghttp2_session *, const void *, const nghttp2_nv *, size_t, const nghttp2_data_provider *, void *);
int nghttp2_submit_response(
  nghttp2_session *, int32_t, const nghttp2_nv *, size_t, const nghttp2_data_provider *);
int32_t nghttp2_submit_headers(
  nghttp2_session *, uint8_t, int32_t, const void *, const nghttp2_nv *, size_t, void *);
int nghttp2_submit_trailer(nghttp2_session *, int32_t, const nghttp2_nv *, size_t);
int nghttp2_submit_settings(nghttp2_session *, uint8_t, const nghttp2_settings_entry *, size_t);
int nghttp2_submit_rst_stream(nghttp2_session *, uint8_t, int32_t, uint32_t);
int nghttp2_submit_ping(nghttp2_session *, uint8_t, const uint8_t *);
int nghttp2_submit_shutdown_notice(nghttp2_session *);
int nghttp2_submit_goaway(nghttp2_session *, uint8_t, int32_t, uint32_t, const uint8_t *, size_t);
"""

ffi: Any = cffi.FFI()
ffi.cdef(_DECLARATIONS)


def load(name: str = NGHTTP2) -> Any:
    """The library, its functions as attributes. Raises LibraryError."""
    library = None
    with contextlib.suppress(OSError):
        library = ffi.dlopen(name)
    if why_not := why_not_nghttp2(library):
        raise LibraryError(why_not)
    return library


# enum nghttp2_frame_type
DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8

# enum nghttp2_flag
FLAG_NONE: Final = 0
FLAG_END_STREAM: Final = 1
FLAG_ACK: Final = 1

# enum nghttp2_data_flag
DATA_EOF: Final = 1
DATA_NO_END_STREAM: Final = 2

# enum nghttp2_error
ERR_DEFERRED: Final = -508
ERR_TEMPORAL_CALLBACK_FAILURE: Final = -521
ERR_CALLBACK_FAILURE: Final = -902
ERR_FLOODED: Final = -904
ERR_TOO_MANY_CONTINUATIONS: Final = -905

# enum nghttp2_settings_id (RFC 9113, 6.5.2; RFC 8441, 3; RFC 9218, 2.1)
SETTINGS_ENABLE_PUSH: Final = 2
SETTINGS_MAX_CONCURRENT_STREAMS: Final = 3
SETTINGS_INITIAL_WINDOW_SIZE: Final = 4
SETTINGS_MAX_HEADER_LIST_SIZE: Final = 6
SETTINGS_ENABLE_CONNECT_PROTOCOL: Final = 8
SETTINGS_NO_RFC7540_PRIORITIES: Final = 9

URGENCY_DEFAULT: Final = 3
