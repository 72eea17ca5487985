/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The heads of both kinds of HTTP/1.1 message. */
#ifndef MESHD_HTTP_HEAD_H
#define MESHD_HTTP_HEAD_H

#include "request_head.h"
#include "response_head.h"

#endif
