/*
 * Plays one seed after the other, each in a process of its own, several side by side.
 * A seed that fails is played again with less and less in its scene, as long as it
 * still fails, and what is left is told with the line that plays it.
 *
 *   faults [--seeds N] [--from S] [--jobs N] [--drop I,J] [--plain PART,PART]
 *          [--with PART,PART] [--limit S] [--keep] [--no-shrink] [--coverage]
 * [--verbose]
 *
 * --jobs: so many side by side; else as many as there are processors.
 * --with: only seeds in whose scenes these parts were drawn.
 * --limit: no new seed after so many seconds. --keep: goes on after one that failed.
 * --no-shrink: tells it as it is.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "faults.h"
#include "guard.h"

enum { JOBS_MAX = 16, WORDS = 400, PLAY_S = 120 };

struct options {
    uint64_t seeds, from;
    unsigned jobs, limit_s;
    uint32_t drop, plain, with;
    bool keep, as_it_is, coverage, verbose;
};

/* What a process has to say. */
struct result {
    bool fine;
    struct outcome outcome;
    char words[WORDS]; /* why not */
};

struct job {
    pid_t pid; /* 0: free */
    uint64_t seed;
    int said; /* its stderr */
    struct result *result;
    struct seen *seen; /* in all its plays */
};

struct hunt {
    struct options o;
    struct job jobs[JOBS_MAX];
    uint64_t next, started, played, failed;
    uint64_t longest_us, lasted_us;
    double began_s;
};

static double now_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *shared(size_t size)
{
    void *p =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        abort();
    return p;
}

/* ------------------------------------------------------------------------- one seed */

static void play(const struct scene *s, struct job *j, const struct hunt *h)
{
    if (!h->o.verbose && dup2(j->said, STDERR_FILENO) < 0)
        abort();
    (void)alarm(PLAY_S);
    seen_to(j->seen);
    if (h->o.verbose)
        scene_tell(s);
    j->result->outcome = faults_play(s);
    j->result->fine = true;
    exit(0);
}

static void start(struct job *j, const struct scene *s, const struct hunt *h)
{
    (void)fflush(NULL);
    *j->result = (struct result){.fine = false};
    j->seed = s->seed;
    if (ftruncate(j->said, 0) != 0 || lseek(j->said, 0, SEEK_SET) != 0)
        abort();
    j->pid = fork();
    if (j->pid < 0)
        abort();
    if (j->pid == 0)
        play(s, j, h);
}

/* Of what it said, the line that names the seed; else the last one. */
static void read_words(struct job *j, int status)
{
    char buf[8192] = "";
    off_t len = lseek(j->said, 0, SEEK_END);
    off_t from = len > (off_t)sizeof(buf) - 1 ? len - (off_t)sizeof(buf) + 1 : 0;
    ssize_t n = pread(j->said, buf, sizeof(buf) - 1, from);
    buf[n > 0 ? n : 0] = '\0';
    char *line = strstr(buf, "seed ");
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) {
        (void)snprintf(buf, sizeof(buf), "it does not end");
        line = buf;
    } else if (line == NULL) {
        line = buf;
    }
    line[strcspn(line, "\n")] = '\0';
    (void)snprintf(j->result->words, sizeof(j->result->words), "%s%s", line,
                   WIFSIGNALED(status) ? " (a signal)" : "");
}

static void ended(struct job *j, int status)
{
    if (!j->result->fine)
        read_words(j, status);
    j->pid = 0;
}

/* ----------------------------------------------------------------------- to shrink */

static bool fails(struct hunt *h, uint64_t seed, uint32_t drop, uint32_t plain)
{
    struct scene s;
    struct job *j = &h->jobs[0];
    int status;
    scene_draw(&s, seed, drop, plain);
    start(j, &s, h);
    while (waitpid(j->pid, &status, 0) < 0 && errno == EINTR)
        ;
    ended(j, status);
    return !j->result->fine;
}

/* Leaves out whatever is not needed for a failure, of whatever words. */
static void shrink(struct hunt *h, struct scene *s)
{
    bool less = true;
    while (less) {
        less = false;
        for (unsigned i = 0; i < s->fault_count; i++)
            if (scene_has_fault(s, i) &&
                fails(h, s->seed, s->dropped | 1u << i, s->plain)) {
                scene_draw(s, s->seed, s->dropped | 1u << i, s->plain);
                less = true;
            }
        for (unsigned p = 0; p < SCENE_PARTS; p++)
            if (scene_has_part(s, (enum scene_part)p) &&
                fails(h, s->seed, s->dropped, s->plain | 1u << p)) {
                scene_draw(s, s->seed, s->dropped, s->plain | 1u << p);
                less = true;
            }
    }
}

static void tell_failure(struct hunt *h, uint64_t seed, const char *words)
{
    struct scene s;
    char line[300], first[WORDS];
    (void)snprintf(first, sizeof(first), "%s", words);
    (void)fprintf(stderr, "%s\n", first);
    if (h->o.as_it_is)
        return;
    scene_draw(&s, seed, h->o.drop, h->o.plain);
    if (!fails(h, seed, h->o.drop, h->o.plain)) {
        (void)fprintf(stderr, "seed %llu runs otherwise the second time\n",
                      (unsigned long long)seed);
        return;
    }
    shrink(h, &s);
    (void)fails(h, seed, s.dropped, s.plain);
    (void)fprintf(stderr, "with less: %s\n", h->jobs[0].result->words);
    scene_tell(&s);
    (void)printf("  faults %s --verbose\n", scene_options(&s, line, sizeof(line)));
}

/* ------------------------------------------------------------------------ the hunt */

static bool may_start(const struct hunt *h)
{
    return h->started < h->o.seeds && (h->failed == 0 || h->o.keep) &&
           (h->o.limit_s == 0 || now_s() - h->began_s < h->o.limit_s);
}

static bool is_wanted(const struct hunt *h, const struct scene *s)
{
    for (unsigned p = 0; p < SCENE_PARTS; p++)
        if ((h->o.with >> p & 1) != 0 && !scene_has_part(s, (enum scene_part)p))
            return false;
    return true;
}

static void draw_next(struct hunt *h, struct scene *s)
{
    do
        scene_draw(s, h->next++, h->o.drop, h->o.plain);
    while (!is_wanted(h, s));
    h->started++;
}

static void start_some(struct hunt *h)
{
    for (unsigned i = 0; i < h->o.jobs; i++) {
        struct scene s;
        if (h->jobs[i].pid != 0 || !may_start(h))
            continue;
        draw_next(h, &s);
        start(&h->jobs[i], &s, h);
    }
}

/* The first one is played twice, and must go the same way. */
static bool runs_the_same(struct hunt *h, uint64_t seed, uint64_t trace)
{
    return !fails(h, seed, h->o.drop, h->o.plain) &&
           h->jobs[0].result->outcome.trace == trace;
}

static bool await_one(struct hunt *h, struct result *out, uint64_t *seed)
{
    int status;
    pid_t pid = wait(&status);
    for (unsigned i = 0; pid > 0 && i < h->o.jobs; i++)
        if (h->jobs[i].pid == pid) {
            ended(&h->jobs[i], status);
            *out = *h->jobs[i].result;
            *seed = h->jobs[i].seed;
            return true;
        }
    return pid > 0 || (pid < 0 && errno == EINTR);
}

static void hunt(struct hunt *h)
{
    struct {
        uint64_t seed;
        char words[WORDS];
    } failures[64];
    unsigned kept = 0;
    uint64_t seed = 0, first = UINT64_MAX, first_trace = 0;
    for (;;) {
        struct result r = {.fine = true};
        start_some(h);
        bool running = false;
        for (unsigned i = 0; i < h->o.jobs; i++)
            running = running || h->jobs[i].pid != 0;
        if (!running || !await_one(h, &r, &seed))
            break;
        h->played++;
        if (r.outcome.longest_us > h->longest_us)
            h->longest_us = r.outcome.longest_us;
        h->lasted_us += r.outcome.lasted_us;
        if (seed <= first) {
            first = seed;
            first_trace = r.outcome.trace;
        }
        if (r.fine)
            continue;
        h->failed++;
        if (kept < 64) {
            failures[kept].seed = seed;
            (void)snprintf(failures[kept++].words, WORDS, "%s", r.words);
        }
    }
    double took_s = now_s() - h->began_s;
    for (unsigned i = 0; i < kept; i++)
        tell_failure(h, failures[i].seed, failures[i].words);
    if (h->failed == 0 && h->played > 0 && !runs_the_same(h, first, first_trace)) {
        (void)fprintf(stderr, "seed %llu runs otherwise the second time\n",
                      (unsigned long long)first);
        h->failed++;
    }
    (void)printf(
        "%llu seeds, %llu failed, %.1f simulated hours in %.0f s (%.1f seeds a "
        "second), longest silence %.1f s\n",
        (unsigned long long)h->played, (unsigned long long)h->failed,
        (double)h->lasted_us / 3.6e9, took_s, (double)h->played / took_s,
        (double)h->longest_us / 1e6);
}

static bool number(const char *text, uint64_t *out)
{
    char *end;
    *out = strtoull(text, &end, 10);
    return *text != '\0' && *end == '\0';
}

static bool parse(struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        uint64_t n = 0;
        bool takes = true, good = true;
        if (strcmp(name, "--seeds") == 0)
            good = number(value, &o->seeds);
        else if (strcmp(name, "--from") == 0)
            good = number(value, &o->from);
        else if (strcmp(name, "--jobs") == 0 && (good = number(value, &n)))
            o->jobs = n < 1 ? 1 : n > JOBS_MAX ? JOBS_MAX : (unsigned)n;
        else if (strcmp(name, "--limit") == 0 && (good = number(value, &n)))
            o->limit_s = (unsigned)n;
        else if (strcmp(name, "--drop") == 0)
            good = scene_parse_drop(value, &o->drop);
        else if (strcmp(name, "--plain") == 0)
            good = scene_parse_plain(value, &o->plain);
        else if (strcmp(name, "--with") == 0)
            good = scene_parse_plain(value, &o->with);
        else if (strcmp(name, "--keep") == 0)
            takes = !(o->keep = true);
        else if (strcmp(name, "--no-shrink") == 0)
            takes = !(o->as_it_is = true);
        else if (strcmp(name, "--coverage") == 0)
            takes = !(o->coverage = true);
        else if (strcmp(name, "--verbose") == 0)
            takes = !(o->verbose = true);
        else
            good = false;
        if (!good) {
            (void)fprintf(stderr, "faults: %s %s: see the top of hunt.c\n", name,
                          value);
            return false;
        }
        i += takes;
    }
    return true;
}

/* As many as there are processors. */
static unsigned jobs_usual(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > JOBS_MAX ? JOBS_MAX : (unsigned)n;
}

int main(int argc, char **argv)
{
    static struct hunt h = {.o = {.seeds = 20, .from = 1}};
    h.o.jobs = jobs_usual();
    if (!parse(&h.o, argc, argv))
        return 2;
    for (unsigned i = 0; i < h.o.jobs; i++) {
        h.jobs[i].result = shared(sizeof(struct result));
        h.jobs[i].seen = shared(sizeof(struct seen));
        h.jobs[i].said = memfd_create("said", 0);
    }
    h.next = h.o.from;
    h.began_s = now_s();
    hunt(&h);
    for (unsigned i = 1; i < h.o.jobs; i++)
        seen_add(h.jobs[0].seen, h.jobs[i].seen);
    if (h.o.coverage)
        seen_tell(h.jobs[0].seen);
    return h.failed > 0;
}
