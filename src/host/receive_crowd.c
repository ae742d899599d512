/*
 * Processes are looked after when somebody comes: no timer, no signal. One that is told
 * to leave says so to its sender, which takes a while, and holds no place meanwhile.
 */
#include "host/receive_crowd.h"

#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

static uint64_t worth(const struct holding *e)
{
    const struct crowd_sender *s = (const struct crowd_sender *)e;
    return atomic_load(&s->place->moved);
}

int crowd_open(struct crowd *c)
{
    size_t len = CROWD_PROCESSES * sizeof(*c->places);
    void *shared =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    *c = (struct crowd){0};
    if (shared == MAP_FAILED)
        return POSTERN_ERR_NOMEM;
    c->places = shared;
    for (size_t i = 0; i < CROWD_PROCESSES; i++)
        c->senders[i].place = &c->places[i];
    holdings_init(&c->holdings, CROWD_SENDERS, worth);
    return 0;
}

static void let_go(struct crowd *c, struct crowd_sender *s)
{
    holdings_give_back(&c->holdings, &s->held);
    s->pid = 0;
    s->killed = false;
}

void crowd_close(struct crowd *c)
{
    for (size_t i = 0; i < CROWD_PROCESSES && c->places != NULL; i++)
        let_go(c, &c->senders[i]);
    if (c->places != NULL)
        (void)munmap(c->places, CROWD_PROCESSES * sizeof(*c->places));
    c->places = NULL;
}

/* One that is free, after those that ended were noticed; how many there are. */
static struct crowd_sender *find_free(struct crowd *c, size_t *free_count)
{
    struct crowd_sender *found = NULL;
    *free_count = 0;
    for (size_t i = 0; i < CROWD_PROCESSES; i++) {
        struct crowd_sender *s = &c->senders[i];
        if (s->pid > 0 && waitpid(s->pid, NULL, WNOHANG) != 0)
            let_go(c, s);
        if (s->pid != 0)
            continue;
        found = s;
        (*free_count)++;
    }
    return found;
}

/* Who comes again and again fills the processes with his own last words. */
static void kill_oldest_leaving(struct crowd *c)
{
    struct crowd_sender *oldest = NULL;
    for (size_t i = 0; i < CROWD_PROCESSES; i++) {
        struct crowd_sender *s = &c->senders[i];
        if (s->pid > 0 && s->held.holder == NULL && !s->killed &&
            (oldest == NULL || s->came < oldest->came))
            oldest = s;
    }
    if (oldest == NULL)
        return;
    oldest->killed = true;
    (void)kill(oldest->pid, SIGKILL);
}

/* Who says nothing keeps nobody out, be he the only one of his device. */
static void part_with_silent(struct crowd *c, uint64_t now_us)
{
    struct crowd_sender *silent = NULL;
    uint64_t longest_us = 0;
    for (size_t i = 0; i < CROWD_PROCESSES; i++) {
        struct crowd_sender *s = &c->senders[i];
        uint64_t patience_ms =
            atomic_load(&s->place->listed) ? CROWD_LISTED_SILENT_MS : CROWD_SILENT_MS;
        uint64_t heard_us = atomic_load(&s->place->heard_us);
        uint64_t silent_us = now_us > heard_us ? now_us - heard_us : 0;
        if (s->held.holder == NULL || silent_us < patience_ms * 1000 ||
            silent_us <= longest_us)
            continue;
        silent = s;
        longest_us = silent_us;
    }
    if (silent == NULL)
        return;
    holdings_give_back(&c->holdings, &silent->held);
    atomic_store(&silent->place->leave, true);
}

struct crowd_sender *crowd_enter(struct crowd *c, const char *who, uint64_t now_us,
                                 bool *served)
{
    uint8_t key[KEY_LEN];
    size_t free_count;
    struct holding *leaves;
    struct crowd_sender *s = find_free(c, &free_count);
    if (free_count < CROWD_KEPT_FREE)
        kill_oldest_leaving(c);
    *served = false;
    if (s == NULL)
        return NULL;
    s->came = c->came++;
    atomic_store(&s->place->moved, 0);
    atomic_store(&s->place->heard_us, now_us);
    atomic_store(&s->place->listed, false);
    atomic_store(&s->place->leave, false);
    key_hash(key, who, strlen(who), NULL, 0);
    if (c->holdings.count >= c->holdings.max)
        part_with_silent(c, now_us);
    *served = holdings_take(&c->holdings, &s->held, key, &leaves) == 0;
    if (leaves != NULL)
        atomic_store(&((struct crowd_sender *)leaves)->place->leave, true);
    return s;
}

void crowd_started(struct crowd *c, struct crowd_sender *s, pid_t pid)
{
    s->pid = pid;
    if (pid <= 0)
        let_go(c, s);
}
