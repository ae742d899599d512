/* posix_spawn(3), a pipe and waitpid(2); what the programs are is not known here. */
#include "cli/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int spawn(struct child *c, const char *const *words, int out, bool errors)
{
    posix_spawn_file_actions_t files;
    if (posix_spawn_file_actions_init(&files) != 0)
        return POSTERN_ERR_NOMEM;
    int rc =
        out >= 0 ? posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO) : 0;
    if (rc == 0 && errors)
        rc = posix_spawn_file_actions_adddup2(&files, out, STDERR_FILENO);
    if (rc == 0)
        rc = posix_spawnp(&c->pid, words[0], &files, NULL,
                          (char *const *)(uintptr_t)words, environ);
    (void)posix_spawn_file_actions_destroy(&files);
    return rc == 0 ? 0 : rc == ENOENT ? POSTERN_ERR_NOTFOUND : POSTERN_ERR_IO;
}

int child_start(struct child *c, const char *const *words, enum child_catch what)
{
    int ends[2] = {-1, -1};
    *c = (struct child){0};
    if (what != CHILD_NOTHING && pipe2(ends, O_CLOEXEC) != 0)
        return POSTERN_ERR_LIMIT;
    int rc = spawn(c, words, ends[1], what == CHILD_ALL);
    if (ends[1] >= 0)
        (void)close(ends[1]);
    if (rc == 0 && ends[0] >= 0 && (c->said = fdopen(ends[0], "r")) == NULL) {
        (void)kill(c->pid, SIGTERM);
        (void)child_wait(c);
        rc = POSTERN_ERR_NOMEM;
    }
    if (rc != 0 && ends[0] >= 0)
        (void)close(ends[0]);
    return rc;
}

bool child_line(struct child *c, char *line, size_t cap)
{
    if (c->said == NULL || fgets(line, (int)cap, c->said) == NULL)
        return false;
    line[strcspn(line, "\n")] = '\0';
    return true;
}

int child_wait(struct child *c)
{
    int status;
    if (c->said != NULL)
        (void)fclose(c->said);
    c->said = NULL;
    while (waitpid(c->pid, &status, 0) < 0)
        if (errno != EINTR)
            return POSTERN_ERR_IO;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int child_run(const char *const *words, char *last, size_t cap)
{
    struct child c;
    char line[256];
    last[0] = '\0';
    int rc = child_start(&c, words, CHILD_ALL);
    if (rc != 0)
        return rc;
    while (child_line(&c, line, sizeof(line)))
        if (line[0] != '\0')
            (void)snprintf(last, cap, "%s", line);
    return child_wait(&c);
}

void child_show_word(FILE *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789/._-:,=@+";
    if (word[0] != '\0' && strspn(word, plain) == strlen(word)) {
        (void)fputs(word, out);
        return;
    }
    (void)fputc('\'', out);
    for (const char *at = word; *at != '\0'; at++)
        (void)fprintf(out, *at == '\'' ? "'\\''" : "%c", *at);
    (void)fputc('\'', out);
}
