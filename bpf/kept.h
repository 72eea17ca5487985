/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The request that the kernel carries, as its client sent it: where its server closes without a
 * word, the proxy may send it again (proxy/fast/carried_request.py).
 *
 * Most requests are so short that the piece in the flow's record is all of them. A flow keeps its
 * other pieces: a client's requests are mostly of one length, and to make an entry for each would
 * cost more than to fill it.
 */
#ifndef MESHD_KEPT_H
#define MESHD_KEPT_H

#include "head_text.h"
#include "maps.h"

/* Words that are copied at once. */
#define KEPT_BLOCK_WORDS 6
#define KEPT_BLOCK_BYTES (8 * KEPT_BLOCK_WORDS)

/* Whether the proxy may send it again: the idempotent methods (RFC 9110, 9.2.2), as in
 * proxy/exchanges/dispatch.py.
 */
static __always_inline bool may_be_repeated(enum method method)
{
	return method != METHOD_POST && method != METHOD_PATCH;
}

static __always_inline struct kept_piece *later_piece(struct kept_key *key)
{
	struct kept_piece *piece = kept.lookup(key);
	struct kept_piece *blank;
	u32 zero = 0;

	if (piece)
		return piece;
	blank = blank_piece.lookup(&zero);
	if (blank)
		kept.insert(key, blank);
	return kept.lookup(key);
}

/* Keeps the text. False: there is no room for it. */
static __always_inline bool keep_request(
	const struct flow_key *flow_key, struct flow *flow, const struct text *text)
{
	struct kept_key key = {.netns = flow_key->netns, .client = flow_key->client};
	struct kept_piece *piece = &flow->first_piece;

	for (u32 i = 0; i < MAX_KEPT_PIECES; i++) {
		if (i * KEPT_PIECE_BYTES >= text->size)
			return true;
		if (i) {
			key.piece = i;
			piece = later_piece(&key);
			if (!piece)
				return false;
		}
		for (u32 block = 0; block < KEPT_PIECE_BYTES / KEPT_BLOCK_BYTES; block++) {
			u32 at = i * KEPT_PIECE_BYTES + block * KEPT_BLOCK_BYTES;
			u64 *to = piece->word + block * KEPT_BLOCK_WORDS;

			if (at >= text->size)
				return true;
			/* What comes into the words after the text's end means nothing. */
			if (text->data + at + KEPT_BLOCK_BYTES > text->end) {
				for (u32 word = 0; word < KEPT_BLOCK_WORDS; word++)
					if (!word_at(text, at + 8 * word, to + word))
						return false;
				return true;
			}
			for (u32 word = 0; word < KEPT_BLOCK_WORDS; word++)
				to[word] = LOAD64(text->data + at + 8 * word);
		}
	}
	return true;
}

/* Whether the text is what is kept, and that so short that it is all in the first piece. */
static __always_inline bool is_kept(const struct flow *flow, const struct text *text)
{
	u32 last;

	if (flow->kept != text->size || text->size < 8 || text->size > KEPT_PIECE_BYTES)
		return false;
	for (u32 i = 0; i < KEPT_PIECE_BYTES / 8; i++) {
		const u8 *at = text->data + 8 * i;

		if (8 * i + 8 > text->size)
			break;
		if (at + 8 > text->end || LOAD64(at) != flow->first_piece.word[i])
			return false;
	}
	/* The last bytes, some of which may be compared again. */
	last = MASKED(text->size - 8, 511);
	return last <= KEPT_PIECE_BYTES - 8 && text->data + last + 8 <= text->end &&
	       LOAD64(text->data + last) == LOAD64((const u8 *)flow->first_piece.word + last);
}

/* The client is closed. */
static __always_inline void forget_request(const struct flow_key *flow)
{
	struct kept_key key = {.netns = flow->netns, .client = flow->client};

	for (u32 i = 1; i < MAX_KEPT_PIECES; i++) {
		key.piece = i;
		if (kept.delete(&key))
			break;
	}
}

#endif
