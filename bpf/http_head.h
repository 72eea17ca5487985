/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef MESHD_HTTP_HEAD_H
#define MESHD_HTTP_HEAD_H

#include "types.h"

static __always_inline enum upcall parse_request(
	const u8 *data, const u8 *data_end, struct request_head *head, const struct rule_set *set)
{
	return UPCALL_SYNTAX;
}

static __always_inline int parse_response(
	const u8 *data, const u8 *data_end, struct response_head *head, int to_head_request)
{
	return UPCALL_RESPONSE;
}

#endif
