/* Where the links of a command line stand: in it, in a file, on stdin, in the
 * environment. */
#ifndef POSTERN_CLI_LINK_TEXT_H
#define POSTERN_CLI_LINK_TEXT_H

#include "cli/options.h"
#include "core/link.h"

#define LINK_VARIABLE "POSTERN_LINK"

/*
 * Puts in place of each link that was given what it stands for: "-" is standard input,
 * read up to the end of the link, "@FILE" a file; a link in several words is put
 * together; and each that can be read is written as it was made. The words of the
 * command line that were one are stars there then. Where none was given, the
 * environment's is taken, if it is of a kind for this command; it is not passed on to
 * other programs. What is no link stays, for whoever parses it to say so.
 */
MUST_CHECK int link_text_settle(struct options *o, const struct command *c,
                                struct fault *f);
/* The link that `text` is, or that stands in the file that it names with '@'. */
MUST_CHECK int link_text_read(struct link *l, const char *text, struct fault *f);

#endif
