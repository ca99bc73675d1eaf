/* What a vendor's library should not do in a process that is not its own, one function each. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

void exits(void) { exit(0); }

void aborts(void) { abort(); }

/* Leaves a process of its own behind, with all that is open, and ends the other. */
void forks(void)
{
    if (fork() == 0) {
        setsid();
        sleep(40);
        _exit(0);
    }
    _exit(3);
}

void closes(void)
{
    for (int descriptor = 0; descriptor < 256; descriptor++)
        close(descriptor);
}

/* Prints, takes the signals for itself, and forks a process that ends. */
void meddles(void)
{
    for (int line = 0; line < 5000; line++) {
        printf("unruly: a line on standard output\n");
        fprintf(stderr, "unruly: a line on standard error\n");
    }
    fflush(stdout);
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    pid_t child = fork();
    if (child == 0)
        _exit(7);
    waitpid(child, NULL, 0);
}
