/* One process a seed; what fails is told by its number, and so can be played again. */
#include "seeds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

bool seeds_take(struct seeds *s, int argc, char **argv, int *i)
{
    if (strcmp(argv[*i], "--keep") == 0) {
        s->keep = true;
        return true;
    }
    if (*i + 1 == argc)
        return false;
    if (strcmp(argv[*i], "--seeds") == 0)
        s->count = strtoull(argv[++*i], NULL, 10);
    else if (strcmp(argv[*i], "--from") == 0)
        s->from = strtoull(argv[++*i], NULL, 10);
    else
        return false;
    return true;
}

static bool plays(const struct seeds *s, void (*play)(void *ctx, uint64_t seed),
                  void *ctx, uint64_t seed)
{
    int status = 0;
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(s->play_s);
        play(ctx, seed);
        abort(); /* it does not come back */
    }
    bool fine = pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
    if (!fine)
        (void)printf("seed %llu fails\n", (unsigned long long)seed);
    return fine;
}

int seeds_play(const struct seeds *s, void (*play)(void *ctx, uint64_t seed), void *ctx)
{
    uint64_t failed = 0;
    for (uint64_t n = 0; n < s->count && (s->keep || failed == 0); n++)
        failed += !plays(s, play, ctx, s->from + n);
    (void)printf("%llu seeds, %llu failed\n", (unsigned long long)s->count,
                 (unsigned long long)failed);
    return failed > 0;
}
