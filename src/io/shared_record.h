/*
 * A small record in a file that several programs change in turn. Who has it works for
 * some microseconds; who finds it taken waits a millisecond or two at most, or not at
 * all, since who has it may have been stopped. What it says is its owners' business.
 */
#ifndef POSTERN_IO_SHARED_RECORD_H
#define POSTERN_IO_SHARED_RECORD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"

enum { SHARED_RECORD_WAIT_US = 1500 };

/* As own_file_open, for reading and writing. */
MUST_CHECK int shared_record_open(const char *dir, const char *path);
/* -1 is fine. */
void shared_record_close(int fd);
/*
 * True: `buf` has what the file holds, zeroes where that is not as long as `len`; and
 * shared_record_put or _leave is to follow. False: another program has it, at once or,
 * if `patient`, still.
 */
MUST_CHECK bool shared_record_take(int fd, void *buf, size_t len, bool patient);
/* Writes it, for the next one. What cannot be written is empty. */
void shared_record_put(int fd, const void *buf, size_t len);
/* It stays as it was. */
void shared_record_leave(int fd);

#endif
