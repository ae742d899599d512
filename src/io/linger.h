/*
 * How a connection looks to the other end when this process ends without a word. The
 * kernel closes the sockets of a killed process in order: a reader takes what it got so
 * far for the whole. So a socket that carries somebody's stream is set to be reset from
 * the start, and is given back its orderly close only when both directions have ended.
 */
#ifndef POSTERN_IO_LINGER_H
#define POSTERN_IO_LINGER_H

/*
 * From now on closing `fd`, by whomever, resets the connection and drops what was not
 * sent yet. Other sockets than TCP know no reset; for them it does nothing.
 */
void linger_reset(int fd);
/* Closing ends it in order, and the kernel sends on what was written. */
void linger_orderly(int fd);
/* Closing ends it in order, and when the other end has got all of that, resets it. */
void linger_reset_after(int fd);
/* Resets it now, and closes `fd`. */
void linger_break(int fd);

#endif
