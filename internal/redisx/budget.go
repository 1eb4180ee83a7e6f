package redisx

import (
	"context"
	"sync/atomic"
	"time"
)

type budgetKey struct{}

// WithBudget gives everything that is done under ctx 100 ms of waiting for Redis in total. A ctx that has
// a budget keeps it.
func WithBudget(ctx context.Context) context.Context {
	if ctx.Value(budgetKey{}) != nil {
		return ctx
	}
	return withBudget(ctx, patience)
}

// Lend gives ctx a budget of its own of as much as it has left, and what is spent of it is not charged.
// It is for whoever asks again and again while it waits for something else.
func Lend(ctx context.Context) context.Context { return withBudget(ctx, left(ctx)) }

func withBudget(ctx context.Context, d time.Duration) context.Context {
	budget := new(atomic.Int64)
	budget.Store(int64(d))
	return context.WithValue(ctx, budgetKey{}, budget)
}

// left is what a command may take.
func left(ctx context.Context) time.Duration {
	if budget, ok := ctx.Value(budgetKey{}).(*atomic.Int64); ok {
		return time.Duration(budget.Load())
	}
	return patience
}

func charge(ctx context.Context, spent time.Duration) {
	if budget, ok := ctx.Value(budgetKey{}).(*atomic.Int64); ok {
		budget.Add(-int64(spent))
	}
}
