package tokencache

import (
	"context"
	"sync"
	"time"
)

// budget is what may be waited for Redis. Its time starts with the first command.
type budget struct {
	once sync.Once
	end  time.Time
}

type budgetKey struct{}

// WithRedisBudget bounds what one request waits for Redis in all, for its limit and its token together.
func WithRedisBudget(ctx context.Context) context.Context {
	if _, ok := ctx.Value(budgetKey{}).(*budget); ok {
		return ctx
	}
	return withFreshBudget(ctx)
}

func withFreshBudget(ctx context.Context) context.Context {
	return context.WithValue(ctx, budgetKey{}, &budget{})
}

func budgetOf(ctx context.Context) *budget {
	if b, ok := ctx.Value(budgetKey{}).(*budget); ok {
		return b
	}
	return &budget{}
}

func (b *budget) remaining() time.Duration {
	b.once.Do(func() { b.end = time.Now().Add(redisBudget) })
	return time.Until(b.end)
}
