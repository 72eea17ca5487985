/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Text, eight bytes at once: the first one is the lowest of a little-endian word. Of a set of bytes
 * a word says by its bytes' high bits which of them are in it; the other bits mean nothing.
 */
#ifndef MESHD_WORDS_H
#define MESHD_WORDS_H

#define CHARS2(a, b)		       ((u16)(u8)(a) | (u16)(u8)(b) << 8)
#define CHARS4(a, b, c, d)	       ((u32)CHARS2(a, b) | (u32)CHARS2(c, d) << 16)
#define CHARS8(a, b, c, d, e, f, g, h) ((u64)CHARS4(a, b, c, d) | (u64)CHARS4(e, f, g, h) << 32)

#define EACH(byte) (0x0101010101010101ULL * (u64)(byte))
#define HIGH_BITS  EACH(0x80)

/* In user space at may be at any address, which C does not allow for a u64. */
#ifndef LOAD64
#define LOAD64(at) (*(const u64 *)(at))
#endif

/* Of ascii's bytes, each below 0x80, those that are at least so much. No sum carries. */
#define AT_LEAST(ascii, least)	  ((ascii) + EACH(0x80 - (least)))
#define AMONG(ascii, least, most) (AT_LEAST(ascii, least) & ~AT_LEAST(ascii, (most) + 1))
#define NOT_EQUAL(ascii, byte)	  (((ascii) ^ EACH(byte)) + EACH(0x7f))
#define ASCII(word)		  ((word)&EACH(0x7f))
#define LETTERS(ascii)		  AMONG((ascii) | EACH(0x20), 'a', 'z')
#define DIGITS(ascii)		  AMONG(ascii, '0', '9')

/* Of a set, as a word of which only the high bits are left. */
static __always_inline u32 first_of(u64 set)
{
	u64 below = ((set & -set) >> 7) - 1;

	return (below & EACH(1)) * EACH(1) >> 56;
}

/* All bits of the bytes before the first of the set, which is not empty. */
static __always_inline u64 before_first_of(u64 set)
{
	return ((set & -set) >> 7) - 1;
}

/* In lower case, where only letters, digits, '-' and '.' matter. */
static __always_inline u64 lower_case(u64 word)
{
	return word | (LETTERS(ASCII(word)) & HIGH_BITS) >> 2;
}

/* The bytes that are not in a plain field's name: letters, digits, '-' and '_'. */
static __always_inline u64 not_in_name(u64 word)
{
	u64 ascii = ASCII(word);

	return ~((LETTERS(ascii) | DIGITS(ascii) | ~NOT_EQUAL(ascii, '-') |
			 ~NOT_EQUAL(ascii, '_')) &
		       ~word) &
	       HIGH_BITS;
}

/* The bytes that are not printable ASCII. */
static __always_inline u64 not_in_value(u64 word)
{
	return (~AMONG(ASCII(word), ' ', '~') | word) & HIGH_BITS;
}

/* The bytes that are in no origin-form target (RFC 9112, 3.2.1; RFC 3986, 3.3 and 3.4). */
static __always_inline u64 not_in_target(u64 word)
{
	u64 ascii = ASCII(word);
	u64 in = AMONG(ascii, '$', 'z') | ~NOT_EQUAL(ascii, '!') | ~NOT_EQUAL(ascii, '~');

	/* '<' and '>' differ by this bit. */
	in &= NOT_EQUAL(ascii | EACH(2), '>') & ~AMONG(ascii, '[', '^') & NOT_EQUAL(ascii, '`');
	return ~(in & ~word) & HIGH_BITS;
}

/* The bytes that are in no plain DNS name or IPv4 address. */
static __always_inline u64 not_in_host(u64 word)
{
	u64 ascii = ASCII(word);

	/* '-' and '.' are neighbours. */
	return ~((LETTERS(ascii) | DIGITS(ascii) | AMONG(ascii, '-', '.') |
			 ~NOT_EQUAL(ascii, '_')) &
		       ~word) &
	       HIGH_BITS;
}

/* The bytes that are in no IPv6 address. */
static __always_inline u64 not_in_ipv6(u64 word)
{
	u64 ascii = ASCII(word);

	/* ':' is after '9'. */
	return ~((AMONG(ascii | EACH(0x20), 'a', 'f') | AMONG(ascii, '0', ':') |
			 ~NOT_EQUAL(ascii, '.')) &
		       ~word) &
	       HIGH_BITS;
}

static __always_inline u64 not_a_digit(u64 word)
{
	return (~DIGITS(ASCII(word)) | word) & HIGH_BITS;
}

#endif
