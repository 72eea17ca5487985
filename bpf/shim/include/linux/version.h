/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The oldest kernel whose helpers the programs use. Kernels since 5.0 no longer compare a program's
 * version with their own; bcc's helper header still wants one.
 */
#ifndef MESHD_SHIM_VERSION_H
#define MESHD_SHIM_VERSION_H

#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE	KERNEL_VERSION(5, 15, 0)

#endif
