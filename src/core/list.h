/* Intrusive doubly linked list: put a struct list_link in the element, a struct list in the owner. Nothing is allocated. */
#ifndef CORE_LIST_H
#define CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list_link {
	struct list_link *prev, *next;
};

struct list {
	struct list_link head; /* circular; head is the sentinel */
	size_t count;
};

#define LIST_OF(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))
#define LIST_EACH(it, list)         for (struct list_link *it = (list)->head.next; it != &(list)->head; it = it->next)
/* The element may be removed inside the loop. */
#define LIST_EACH_SAFE(it, tmp, list)                                                                                          \
	for (struct list_link *it = (list)->head.next, *tmp = it->next; it != &(list)->head; it = tmp, tmp = it->next)

static inline void list_init(struct list *list)
{
	list->head.prev = list->head.next = &list->head;
	list->count = 0;
}

static inline bool list_linked(const struct list_link *link)
{
	return link->next != NULL;
}

static inline void list_insert_before(struct list *list, struct list_link *at, struct list_link *link)
{
	link->prev = at->prev;
	link->next = at;
	at->prev->next = link;
	at->prev = link;
	list->count++;
}

static inline void list_push_back(struct list *list, struct list_link *link)
{
	list_insert_before(list, &list->head, link);
}

static inline void list_push_front(struct list *list, struct list_link *link)
{
	list_insert_before(list, list->head.next, link);
}

/* A link that is in no list is left alone. */
static inline void list_remove(struct list *list, struct list_link *link)
{
	if (!list_linked(link))
		return;
	link->prev->next = link->next;
	link->next->prev = link->prev;
	link->prev = link->next = NULL;
	list->count--;
}

static inline struct list_link *list_first(struct list *list)
{
	return list->head.next == &list->head ? NULL : list->head.next;
}

static inline struct list_link *list_pop_front(struct list *list)
{
	struct list_link *link = list_first(list);
	if (link)
		list_remove(list, link);
	return link;
}

#endif
