import { CreditsOf } from "../pages/credits/CreditsOf";

export function Credits({ customer }: { customer: string }) {
  return (
    <>
      <header class="page-head"><h1>Credits</h1></header>
      <CreditsOf customer={customer} />
    </>
  );
}
