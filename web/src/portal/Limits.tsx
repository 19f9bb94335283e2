import { LimitsOf } from "../pages/limits/LimitsOf";

export function Limits({ customer }: { customer: string }) {
  return (
    <>
      <header class="page-head"><h1>Limits</h1></header>
      <section class="panel"><LimitsOf customer={customer} /></section>
    </>
  );
}
