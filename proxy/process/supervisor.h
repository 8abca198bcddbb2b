/* What the service manager is told: that Tarry is ready, reloads, stops, lives. The protocol is
 * that of sd_notify(3), a datagram each to the socket named by NOTIFY_SOCKET; without that variable
 * nothing is sent. One process speaks for all of them: the one that was started. */
#ifndef TARRY_PROCESS_SUPERVISOR_H
#define TARRY_PROCESS_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Takes over the listening sockets that it passes on (LISTEN_FDS, LISTEN_PID). To be called first
 * of all: they are descriptors from 3 on. */
void supervisor_inherit(void);

/* Connects, before the sandbox could forbid it, and takes the variables out of the environment. */
void supervisor_open(void);
void supervisor_close(void);

void supervisor_ready(void);

/* In a process that is about to start another binary: sets the variables that tell it of the
 * service manager, and of its first `nsockets` listening sockets. */
void supervisor_pass_on(size_t nsockets);

/* Another process is the main one from now on, and is ready. */
void supervisor_replaced_by(int pid);

/* A reload has begun; it was taken into use, or refused. */
void supervisor_reloading(void);
void supervisor_reloaded(bool taken);

void supervisor_stopping(void);

/* How often supervisor_alive() is to be called, in milliseconds; 0: nobody watches. */
uint64_t supervisor_interval_ms(void);
void supervisor_alive(void);

#endif
