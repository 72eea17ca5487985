/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* For libFuzzer: no input makes the parsers touch what is not theirs, or say what cannot be. That
 * what they say is what the proxy says is the other fuzzer's part (fuzz/__main__.py).
 */
#include "head.c"

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			__builtin_trap();                                                          \
	} while (0)

static void check_fields(
	const u8 *data, const struct head_field *field, u32 start, u32 length, u32 size)
{
	CHECK(length <= size && length <= MESHD_MAX_REQUEST_HEAD && start < length);
	CHECK(!memcmp(data + length - 4, "\r\n\r\n", 4));
	for (u32 i = 0; i < FIELD_SLOTS; i++) {
		if (!field[i].count)
			continue;
		CHECK(field[i].start > start && field[i].length);
		CHECK(field[i].start + field[i].length <= length - 4);
		CHECK(!memcmp(data + field[i].start - 2, ": ", 2));
		CHECK(!memcmp(data + field[i].start + field[i].length, "\r\n", 2));
	}
}

static void check_request(const u8 *data, u32 size, const struct request_head *head)
{
	u32 end = head->path_start;

	check_fields(data, head->field, head->path_end, head->length, size);
	CHECK(head->method > METHOD_ANY && head->method <= METHOD_TRACE);
	CHECK(head->path_start >= 4 && head->path_start < head->path_end);
	CHECK(head->path_end - head->path_start <= MAX_PATH_BYTES);
	CHECK(data[head->path_start] == '/');
	CHECK(data[head->path_end] == (head->has_query ? '?' : ' '));
	CHECK(head->elements <= MAX_PREFIX_ELEMENTS);
	for (u32 i = 0; i < head->elements; i++) {
		CHECK(head->element[i].end > end && head->element[i].end < head->path_end);
		end = head->element[i].end;
		CHECK(data[end] == '/');
	}
	CHECK(head->field[FIELD_HOST].count == 1);
	CHECK(head->field[FIELD_CONTENT_LENGTH].count <= 1);
	CHECK(head->content_length < 10000000000);
}

static void check_response(const u8 *data, u32 size, const struct response_head *head)
{
	check_fields(data, head->field, 12, head->length, size);
	CHECK(head->status >= 200 && head->status < 600);
	CHECK(head->field[FIELD_DATE].count == 1);
	CHECK(!head->chunked || !head->content_length);
	CHECK(head->content_length < 10000000000);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static const struct rule_set set = {
		.headers = 3,
		.header_length = {8, 1, MAX_HEADER_NAME_BYTES},
		.header = {"x-canary", "a", "x-123456789-123456789-123456789-"},
	};
	struct request_head request;
	struct response_head response;

	/* What was there before does not matter. */
	memset(&request, size & 1 ? 0xff : 0, sizeof(request));
	if (!parse_request(data, data + size, &request, &set))
		check_request(data, size, &request);
	for (int to_head_request = 0; to_head_request < 2; to_head_request++) {
		memset(&response, size & 1 ? 0xff : 0, sizeof(response));
		if (!parse_response(data, data + size, &response, to_head_request))
			check_response(data, size, &response);
	}
	return 0;
}
