/* Reads HTML as strictly as the portal writes it, to find what slipped through. */
#ifndef TESTS_PORTAL_MARKUP_H
#define TESTS_PORTAL_MARKUP_H

#include <stddef.h>

/*
 * NULL when `text` is sound: elements and attributes that the portal uses and no
 * others, properly nested, values in double quotes, every '&' an entity that html.c
 * writes, UTF-8 without controls. Otherwise what is wrong, and `*at` is where.
 *
 * `skeleton`, of `cap` bytes, gets the names of elements and attributes in order, and
 * the values of attributes that a view cannot choose: two pages of views that differ
 * in texts only have the same.
 */
const char *markup_check(const char *text, char *skeleton, size_t cap, size_t *at);

#endif
